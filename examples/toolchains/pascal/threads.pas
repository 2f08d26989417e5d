program threads;
{$mode objfpc}
uses
  cthreads, classes;
var
  total: longint = 0;

function add(number: pointer): ptrint;
begin
  InterlockedExchangeAdd(total, ptrint(number));
  add := 0;
end;

var
  i: integer;
  started: array[1..8] of TThreadID;
begin
  for i := 1 to 8 do
    started[i] := BeginThread(@add, pointer(ptrint(i)));
  for i := 1 to 8 do
    WaitForThreadTerminate(started[i], 0);
  writeln(total);
end.
