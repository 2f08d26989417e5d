import Control.Concurrent
import Control.Monad

main :: IO ()
main = do
  results <- forM [1 .. 8] $ \number -> do
    result <- newEmptyMVar
    _ <- forkOS (putMVar result number)
    return result
  numbers <- mapM takeMVar results
  print (sum numbers :: Int)
