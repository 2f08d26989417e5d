# A fork bomb that ends when fork() fails. It refuses to go off outside of a sandbox.
import os
import socket
import sys

if socket.gethostname() != "sandbox":
    sys.exit("bomb: this is not a sandbox")
while True:
    os.fork()
