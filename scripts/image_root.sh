#!/bin/bash
# image_root.sh PROGRAM FOLDER: the file tree of a small image: the program, the libraries that it needs with theirs, certificates,
# and a user. No shell, no package manager. The Dockerfile's last stage is this folder.
set -euo pipefail
program=$1 root=$2
mkdir -p "$root"/{bin,etc,proc,sys,dev,usr/bin,var,home/tiercel/.cache/huggingface,tmp,var/tmp}
chmod 1777 "$root/tmp" "$root/var/tmp"
install -m 755 "$program" "$root/usr/bin/tiercel"
strip "$root/usr/bin/tiercel"
ln -sf tiercel "$root/usr/bin/vllm"

# Each where the loader finds it by itself, as a file under the name that is asked for.
ldd "$program" | awk '$2 == "=>" { print $3 } $1 ~ /^\// { print $1 }' | while read -r library; do
  install -D -m 755 "$library" "$root/$library"
done
# What the C library loads by name, to look up hosts.
for name in libnss_dns.so.2 libnss_files.so.2; do
  library=$(ldconfig -p | awk -v name=$name '$1 == name && /x86-64/ { print $NF; exit }')
  if [ -n "$library" ]; then install -D -m 755 "$library" "$root/$library"; fi
done
install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
echo 'tiercel:x:65532:65532::/home/tiercel:/sbin/nologin' >"$root/etc/passwd"
echo 'tiercel:x:65532:' >"$root/etc/group"
chown -R 65532:65532 "$root/home/tiercel" 2>/dev/null || echo "not root: home/tiercel belongs to $(id -un)" >&2
