#!/bin/sh
# Ledger: the lab's guest. It is the whole user space of a VM whose disks tell afterwards what was lost.
#
# Record n is written to disk A (vda), made durable, and only then written to disk B (vdb). So on every
# crash-consistent pair of disks B = A or B = A - 1 holds, and the number of the last record says how far
# the pair has come.
#
# A record is one 512-byte sector of text (lab/ledger-reader.ts reads the same):
#   bytes   0..498  "ledger1 n=0000000042 t=1700000000000 boot=89abcdef", filled up with dots
#   bytes 499..511  " crc=xxxxxxxx": the CRC-32 of bytes 0..498 (here is no room for a newline)
# Record n is at sector (n - 1) mod slots; slots is half of the disk's sectors, at most 65536.
# The other half of disk B belongs to the load and to the fill that the kernel's command line may ask for:
#   ledger.interval=MS  ledger.load=WRITES_PER_SECOND  ledger.fill=BYTES
# The network is asked for an address, unless one is given; a web server and pings to a neighbour are on request:
#   ledger.address=ADDRESS/PREFIX  ledger.gateway=ADDRESS  ledger.http=PORT  ledger.ping=ADDRESS

export PATH=/bin:/sbin
/bin/busybox mkdir -p /proc /sys /dev /tmp /run
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
exec </dev/console >/dev/console 2>&1

for module in $(cat /modules/order); do
  insmod "/modules/$module.ko" || echo "LEDGER module $module failed"
done

parameter() {
  value=$2
  for word in $(cat /proc/cmdline); do
    case $word in "$1="*) value=${word#*=} ;; esac
  done
  echo "$value"
}
interval_ms=$(parameter ledger.interval 100)
load_rate=$(parameter ledger.load 0)
fill_bytes=$(parameter ledger.fill 0)
boot=$(od -An -N4 -tx4 /dev/urandom | tr -d ' ')

now_ms() {
  seconds=${EPOCHREALTIME%.*}
  micros=${EPOCHREALTIME#*.}
  now=$seconds${micros%???}
}

# --- One sector of a disk -------------------------------------------------------------------------

# read_slot DISK SLOT: sets `number` to the record's number, or to "empty" or "torn".
read_slot() {
  dd if="$1" of=/tmp/sector bs=512 skip="$2" count=1 2>/dev/null
  head -c 499 /tmp/sector >/tmp/body
  text=$(tr -d '\000' </tmp/body)
  case $text in
    'ledger1 n='??????????' t='*)
      crc=$(crc32 </tmp/body)
      tail=$(tail -c 13 /tmp/sector | tr -d '\000')
      number=torn
      if [ "$tail" = " crc=$crc" ]; then
        number=${text#ledger1 n=}
        number=${number%% *}
        number=${number#"${number%%[!0]*}"}
      fi
      ;;
    '') number=empty ;;
    *) number=torn ;;
  esac
}

# write_record DISK NUMBER FILE: returns after the record is durable.
write_record() {
  dd if="$3" of="$1" bs=512 seek=$((($2 - 1) % slots)) conv=notrunc,fsync 2>/dev/null
}

make_record() {
  now_ms
  printf 'ledger1 n=%010d t=%013d boot=%s ' "$1" "$now" "$boot" >/tmp/record
  head -c 448 /dots >>/tmp/record
  printf ' crc=%s' "$(crc32 </tmp/record)" >>/tmp/record
}

# --- What is there at boot ------------------------------------------------------------------------

# find_last DISK: sets `last` to its last good record (0 for none) and `quality` to good or torn.
# Sectors 0..i hold the numbers first..first+i of the newest round; those after hold the round before, or
# nothing.
find_last() {
  quality=good
  read_slot "$1" 0
  first=$number
  case $first in
    empty | torn)
      # A crash while sector 0 of a new round was written leaves the round before, whose last sector is full.
      [ "$first" = torn ] && quality=torn
      read_slot "$1" $((slots - 1))
      case $number in empty | torn) last=0 ;; *) last=$number ;; esac
      return
      ;;
  esac
  low=0
  high=$slots
  while [ $((high - low)) -gt 1 ]; do
    middle=$(((low + high) / 2))
    read_slot "$1" "$middle"
    if [ "$number" = $((first + middle)) ]; then low=$middle; else high=$middle; fi
  done
  last=$((first + low))
  if [ $((low + 1)) -lt "$slots" ]; then
    read_slot "$1" $((low + 1))
    [ "$number" = torn ] && quality=torn
  fi
  # The records before the last one were durable long ago: look at some of them too.
  back=1
  while [ "$back" -le 8 ] && [ "$back" -le "$low" ]; do
    read_slot "$1" $((low - back))
    [ "$number" = $((last - back)) ] || quality=torn
    back=$((back + 1))
  done
}

# --- Things beside the ledger ---------------------------------------------------------------------

# The power button ends the ledger after the record that is being written.
watch_power_button() {
  for event in /sys/class/input/event*; do
    if [ "$(cat "$event/device/name" 2>/dev/null)" = 'Power Button' ]; then
      dd if="/dev/input/${event##*/}" of=/dev/null bs=24 count=1 2>/dev/null && kill -TERM 1
      return
    fi
  done
  echo 'LEDGER power button missing'
}

# As much of the QEMU guest agent's protocol as tells that the guest lives.
answer_agent() {
  port=
  for candidate in /sys/class/virtio-ports/*; do
    [ "$(cat "$candidate/name" 2>/dev/null)" = org.qemu.guest_agent.0 ] && port=/dev/${candidate##*/}
  done
  [ -n "$port" ] || return
  # The real one is there when the VM's initrd has it (agent-image.ts).
  if [ -x /sbin/qemu-ga ]; then
    qemu-ga -m virtio-serial -p "$port" -t /run -f /run/qemu-ga.pid
    return
  fi
  exec 3<>"$port"
  while :; do
    # A read ends at once while no one holds the other end.
    read -r line <&3 || { sleep 1; continue; }
    case $line in
      *guest-sync*)
        id=${line##*\"id\"}
        id=$(echo "$id" | tr -dc '0-9')
        printf '{"return":%s}\n' "$id" >&3
        ;;
      *guest-ping*) printf '{"return":{}}\n' >&3 ;;
      *guest-info*) printf '{"return":{"version":"ledger","supported_commands":[]}}\n' >&3 ;;
      *guest-shutdown*) kill -TERM 1 ;;
      *) printf '{"error":{"class":"CommandNotFound","desc":"not known to ledger"}}\n' >&3 ;;
    esac
  done
}

join_network() {
  [ -e /sys/class/net/eth0 ] || return
  ip link set lo up
  ip link set eth0 up
  address=$(parameter ledger.address '')
  gateway=$(parameter ledger.gateway '')
  port=$(parameter ledger.http '')
  neighbour=$(parameter ledger.ping '')
  if [ -n "$port" ]; then
    mkdir -p /www
    echo "ledger $boot" >/www/index.html
    httpd -p "$port" -h /www
  fi
  [ -n "$neighbour" ] && ping -q "$neighbour" >/dev/null 2>&1 &
  if [ -n "$address" ]; then
    ip addr add "$address" dev eth0
    [ -n "$gateway" ] && ip route add default via "$gateway"
    echo "LEDGER address ${address%/*}"
    return
  fi
  udhcpc -i eth0 -q -n -t 5 -s /bin/on-dhcp >/dev/null 2>&1
}

# Random 4 KiB writes to the second half of disk B, `load_rate` of them each second.
run_load() {
  blocks=$((bytes / 2 / 4096))
  while :; do
    now_ms
    start=$now
    count=0
    while [ "$count" -lt "$load_rate" ]; do
      place=$(((RANDOM * 32768 + RANDOM) % blocks + blocks))
      dd if=/dev/urandom of=/dev/vdb bs=4096 count=1 seek="$place" conv=notrunc 2>/dev/null
      count=$((count + 1))
    done
    sync /dev/vdb
    now_ms
    rest=$((1000 - (now - start)))
    [ "$rest" -gt 0 ] && usleep "${rest}000"
  done
}

run_fill() {
  echo "LEDGER fill begins bytes=$fill_bytes"
  room=$((bytes / 2))
  [ "$fill_bytes" -gt "$room" ] && fill_bytes=$room
  dd if=/dev/urandom of=/dev/vdb bs=1M count=$((fill_bytes / 1048576)) seek=$((room / 1048576)) \
    conv=notrunc,fsync 2>/dev/null
  echo "LEDGER fill ends bytes=$fill_bytes"
}

# --- The ledger -----------------------------------------------------------------------------------

stop=
trap 'stop=1' TERM

# In steps, so that the power button is heard, and because usleep takes no more than 32 bits of microseconds: given
# more it does not sleep at all.
pause_ms() {
  rest=$1
  while [ "$rest" -gt 0 ] && [ -z "$stop" ]; do
    step=$rest
    [ "$step" -gt 1000 ] && step=1000
    usleep "${step}000"
    rest=$((rest - step))
  done
}

if [ ! -b /dev/vda ] || [ ! -b /dev/vdb ]; then
  echo 'LEDGER needs two disks, vda and vdb'
  poweroff -f
fi
bytes=$(blockdev --getsize64 /dev/vdb)
smaller=$(blockdev --getsize64 /dev/vda)
[ "$smaller" -lt "$bytes" ] && bytes=$smaller
slots=$((bytes / 512 / 2))
[ "$slots" -gt 65536 ] && slots=65536

find_last /dev/vda
last_a=$last
quality_a=$quality
find_last /dev/vdb
last_b=$last
quality_b=$quality
verdict=good
if [ "$quality_a$quality_b" != goodgood ]; then
  verdict=torn
elif [ "$last_a" != "$last_b" ] && [ "$last_a" != $((last_b + 1)) ]; then
  verdict=inconsistent
fi
echo "LEDGER found A=$last_a B=$last_b $verdict boot=$boot"
# What should never be is left as it is, for a person to look at.
if [ "$verdict" != good ]; then
  echo "LEDGER halted"
  watch_power_button
  poweroff -f
fi

bytes=$(blockdev --getsize64 /dev/vdb)
watch_power_button &
answer_agent &
join_network &
[ "$load_rate" -gt 0 ] && [ "$fill_bytes" = 0 ] && run_load &
[ "$fill_bytes" -gt 0 ] && { run_fill; [ "$load_rate" -gt 0 ] && run_load; } &

# Disk B lacks the last record of disk A when the moment lay between the two writes.
if [ "$last_a" -gt 0 ] && [ "$last_a" = $((last_b + 1)) ]; then
  dd if=/dev/vda of=/tmp/missing bs=512 skip=$(((last_a - 1) % slots)) count=1 2>/dev/null
  write_record /dev/vdb "$last_a" /tmp/missing
fi

n=$last_a
while [ -z "$stop" ]; do
  n=$((n + 1))
  now_ms
  start=$now
  make_record "$n"
  write_record /dev/vda "$n" /tmp/record && write_record /dev/vdb "$n" /tmp/record || {
    echo "LEDGER write failed n=$n"
    n=$((n - 1))
    sleep 1
    continue
  }
  echo "LEDGER n=$n t=$start"
  now_ms
  pause_ms $((interval_ms - (now - start)))
done
sync
echo "LEDGER shutdown n=$n"
poweroff -f
