package main

import (
	"fmt"
	"runtime"
	"sync"
)

func main() {
	var group sync.WaitGroup
	var lock sync.Mutex
	sum := 0
	for number := 1; number <= 8; number++ {
		group.Add(1)
		go func(number int) {
			runtime.LockOSThread()
			lock.Lock()
			sum += number
			lock.Unlock()
			group.Done()
		}(number)
	}
	group.Wait()
	fmt.Println(sum)
}
