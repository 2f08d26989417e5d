-module(threads).
-export([main/0]).
main() ->
    Self = self(),
    [spawn(fun() -> Self ! N end) || N <- lists:seq(1, 8)],
    io:format("~p~n", [lists:sum([receive M -> M end || _ <- lists:seq(1, 8)])]).
