let () =
  let lock = Mutex.create () and total = ref 0 in
  let add number =
    Mutex.lock lock;
    total := !total + number;
    Mutex.unlock lock
  in
  List.init 8 succ |> List.map (Thread.create add) |> List.iter Thread.join;
  Printf.printf "%d\n" !total
