:- initialization((findall(T, (between(1, 8, N), thread_create(thread_exit(N), T)), Ts),
                   foldl([T, A, B]>>(thread_join(T, exited(N)), B is A + N), Ts, 0, Sum),
                   write(Sum), nl, halt)).
