from setuptools import setup

setup(name="word", version="1", packages=["word"])
