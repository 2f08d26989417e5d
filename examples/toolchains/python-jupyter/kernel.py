from jupyter_client.manager import start_new_kernel

manager, client = start_new_kernel(kernel_name="python3")
client.execute_interactive("print('hello')", timeout=60)
client.stop_channels()
manager.shutdown_kernel(now=True)
