# Sourced on the GPU machine, in the repository's root: unpacks what scripts/gpu/pack.mjs made and finds the Vulkan driver.
# Leaves `node` and `matgan` as functions.
for f in .gl/*.deb; do [ -f "$f" ] && dpkg -x "$f" /; done; ldconfig
for f in /usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json /usr/share/vulkan/icd.d/nvidia_icd.json /etc/vulkan/icd.d/nvidia_icd.json; do
  [ -f "$f" ] && export VK_DRIVER_FILES=$f && break
done
python3 - <<'PY'
import lzma, os
for name, to in (('node.xz', '.carry/node'), ('dawn.node.xz', '.carry/node_modules/webgpu/dist/linux-x64/dawn.node')):
    if not os.path.exists(to):
        with lzma.open('.carry/' + name) as f, open(to, 'wb') as g:
            g.write(f.read())
        os.chmod(to, 0o755)
PY
node() { .carry/node "$@"; }
matgan() { .carry/node .carry/js/matgan.js "$@"; }
