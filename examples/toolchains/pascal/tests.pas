program tests;
{$mode objfpc}{$H+}
uses
  fpcunit, testregistry, consoletestrunner;
type
  Numbers = class(TTestCase)
  published
    procedure Sum;
    procedure Product;
  end;

procedure Numbers.Sum;
begin
  AssertEquals(3, 1 + 2);
end;

procedure Numbers.Product;
begin
  AssertEquals(6, 2 * 3);
end;

var
  Runner: TTestRunner;
begin
  RegisterTest(Numbers);
  Runner := TTestRunner.Create(nil);
  Runner.Initialize;
  Runner.Run;
  Runner.Free;
end.
