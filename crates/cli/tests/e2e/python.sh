# Makes a whole Python in the folder $1, from the one of this machine: interpreter, standard library and pip, not yet
# compiled, as distributions have it; and a wheel in $2.
set -euo pipefail
to=$1 wheels=$2
export PYTHONDONTWRITEBYTECODE=1
mkdir -p "$to/bin" "$to/lib" "$wheels"
python3 -m venv "$to/venv"
read -r python lib <<<"$(python3 -c 'import sys, sysconfig; print(sys._base_executable, sysconfig.get_path("stdlib"))')"
name=${lib##*/}
cp "$(readlink -f "$python")" "$to/bin/python3"
tar -C "${lib%/*}" --exclude=__pycache__ --exclude='*-packages' --exclude='config-*' --exclude=test -cf - "$name" |
	tar -C "$to/lib" -xf -
tar -C "$to/venv/lib/$name/site-packages" --exclude=__pycache__ -cf - pip | tar -C "$to/lib/$name" -xf -
rm -r "$to/venv"
python3 - "$wheels/hello-1.0-py3-none-any.whl" <<'P'
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as wheel:
    wheel.writestr("hello.py", "def greet(): print('hello from a wheel')\n")
    about = "hello-1.0.dist-info/"
    wheel.writestr(about + "METADATA", "Metadata-Version: 2.1\nName: hello\nVersion: 1.0\n")
    wheel.writestr(about + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(about + "RECORD", "hello.py,,\n" + about + "METADATA,,\n" + about + "WHEEL,,\n" + about + "RECORD,,\n")
P
