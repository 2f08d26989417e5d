import threading

total = []


def add(number):
    total.append(number)


threads = [threading.Thread(target=add, args=(number,)) for number in range(1, 9)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sum(total))
