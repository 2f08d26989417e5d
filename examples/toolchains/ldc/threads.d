import core.atomic;
import core.thread;
import std.stdio;

shared int total;

void main()
{
    auto group = new ThreadGroup;
    foreach (number; 1 .. 9)
    {
        (int n) { group.create(() { atomicOp!"+="(total, n); }); }(number);
    }
    group.joinAll();
    writeln(total);
}
