#include <iostream>
#include <mutex>
#include <thread>
#include <vector>

int main() {
    std::mutex lock;
    std::vector<std::thread> threads;
    int sum = 0;
    for (int number = 1; number <= 8; number++) {
        threads.emplace_back([&, number] {
            std::lock_guard<std::mutex> held(lock);
            sum += number;
        });
    }
    for (auto &thread : threads) {
        thread.join();
    }
    std::cout << sum << "\n";
}
