import Test.HUnit

main :: IO ()
main = runTestTTAndExit (TestList [1 + 2 ~?= (3 :: Int), 2 * 3 ~?= (6 :: Int)])
