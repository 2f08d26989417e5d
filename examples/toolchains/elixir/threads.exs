1..8 |> Enum.map(fn number -> Task.async(fn -> number end) end) |> Enum.map(&Task.await/1) |> Enum.sum() |> IO.puts()
