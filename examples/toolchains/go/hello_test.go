package main

import "testing"

func TestSum(t *testing.T) {
	if 1+2 != 3 {
		t.Fail()
	}
}

func TestProduct(t *testing.T) {
	if 2*3 != 6 {
		t.Fail()
	}
}
