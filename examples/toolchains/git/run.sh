set -e
export GIT_AUTHOR_NAME=n GIT_AUTHOR_EMAIL=n@x GIT_COMMITTER_NAME=n GIT_COMMITTER_EMAIL=n@x
git init -q repository
cd repository
echo one >file
git add file
git commit -q -m first
git checkout -q -b branch
echo two >>file
git commit -q -a -m second
git worktree add -q ../tree HEAD~1
git gc -q
git clone -q . ../clone
test "$(git -C ../clone log --format=%s | tr '\n' ' ')" = "second first "
echo hello
