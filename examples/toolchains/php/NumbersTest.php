<?php
use PHPUnit\Framework\TestCase;

final class NumbersTest extends TestCase
{
    public function testSum(): void
    {
        $this->assertSame(3, 1 + 2);
    }

    public function testProduct(): void
    {
        $this->assertSame(6, 2 * 3);
    }
}
