import multiprocessing
from concurrent.futures import ProcessPoolExecutor


def pooled(method):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        return list(pool.map(abs, [-1, -2]))


def managed():
    with multiprocessing.Manager() as manager:
        numbers = manager.dict()
        process = multiprocessing.Process(target=numbers.update, args=({"a": 1},))
        process.start()
        process.join()
        return dict(numbers)


if __name__ == "__main__":
    for each in ("fork", "spawn", "forkserver"):
        assert pooled(each) == [1, 2], each
    assert managed() == {"a": 1}
    print("hello")
