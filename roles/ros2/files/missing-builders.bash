# Prints what is missing to build interface packages, one a line; $0 is the installation's setup.bash.
. "$0" >/dev/null
for program in colcon cmake c++; do
  command -v "$program" >/dev/null || echo "$program"
done
IFS=:
for package in ament_cmake rosidl_default_generators; do
  found=
  for prefix in ${AMENT_PREFIX_PATH:-}; do
    [ -e "$prefix/share/$package/package.xml" ] && found=yes
  done
  [ "$found" ] || echo "$package"
done
exit 0
