#!/bin/sh
# The tests of the base install (no torch) on each of these Pythons, with the locked versions: sh tools/matrix.sh 3.10 ...
# What is installed for them is kept in .matrix/. PYTEST_ADDOPTS chooses tests.

# The command of a Python version: on the PATH, or one of pyenv's.
find_python() {
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        "$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null || continue
        echo "$candidate"
        return
    done
}

mkdir -p .matrix
sed -E 's/ *\\$//; /^ +--hash/d' requirements/test.txt >.matrix/locked.txt
results= failed=0
for version; do
    python=$(find_python "$version")
    folder=.matrix/$version
    if [ -z "$python" ]; then
        result='not tested: no such interpreter here'
    elif "$python" -m venv "$folder" &&
        "$folder/bin/pip" install --quiet --disable-pip-version-check -c .matrix/locked.txt --editable '.[test,view,mqtt]' &&
        "$folder/bin/pytest" -q -n 2 --dist loadfile --no-loadscope-reorder; then
        result=passed
    else
        result=FAILED failed=1
    fi
    results="$results
Python $version: $result"
done
echo "$results"
case $results in *passed*) exit $failed ;; *) exit 1 ;; esac
