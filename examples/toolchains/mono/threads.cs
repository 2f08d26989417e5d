using System.Linq;
using System.Threading;

class Threads
{
    static int total;

    static void Main()
    {
        var threads = Enumerable.Range(1, 8).Select(number => new Thread(() => Interlocked.Add(ref total, number))).ToList();
        threads.ForEach(thread => thread.Start());
        threads.ForEach(thread => thread.Join());
        System.Console.WriteLine(total);
    }
}
