import sys

numbers = [int(word) for word in sys.stdin.read().split()]
for i in range(numbers[0] + 1):
    print(numbers[2 * i + 1] + numbers[2 * i + 2])
