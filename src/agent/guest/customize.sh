# Gives a guest its addresses and host name, and takes that back. It runs in the guest, through its agent; what stands
# before it here sets MODE (apply, preview or restore) and, but for restore, what is to be written in each form:
#   NICS         names of the interfaces          HINTS        words by which definitions may know them
#   OTHERS       names of its other interfaces    HOST         its host name, or nothing
#   NETPLAN      a file                           IFUPDOWN     stanzas
#   RESOLVER     a file, or nothing               FAMILIES     inet, inet6: those that are said something of
#   manager_file NAME and ip_commands NAME say the same for one interface; expected NAME its addresses
#
# Before anything is changed, what will be changed is kept in $KEEP; `restore` puts it back. What fails is put back at
# once. ROOT is where the guest's files are; anything but nothing is for tests.
set -eu
ROOT=${ROOT:-}
KEEP=$ROOT/var/lib/antipode/network
CLOUD=/etc/cloud/cloud.cfg.d/99-antipode.cfg
NETPLAN_FILE=/etc/netplan/99-antipode.yaml
WAIT_S=15

have() { command -v "$1" >/dev/null 2>&1; }
refuse() {
  echo "refused: $*"
  exit 3
}

detect() {
  if have netplan && ls "$ROOT"/etc/netplan/*.yaml >/dev/null 2>&1; then
    echo netplan
  elif have nmcli && [ "$(nmcli -t -f RUNNING general 2>/dev/null)" = running ]; then
    echo NetworkManager
  elif have ifup && [ -f "$ROOT/etc/network/interfaces" ]; then
    echo ifupdown
  elif have ip; then
    echo ip
  else
    refuse 'the guest has none of netplan, NetworkManager, ifupdown and ip'
  fi
}

# --- What is kept ----------------------------------------------------------------------------------

keep() {
  rm -rf "$KEEP.new"
  mkdir -p "$KEEP.new/files"
  chmod 700 "$KEEP.new"
  : >"$KEEP.new/absent"
  for file in "$@"; do
    if [ -e "$ROOT$file" ]; then
      mkdir -p "$KEEP.new/files${file%/*}"
      cp -p "$ROOT$file" "$KEEP.new/files$file"
    else
      echo "$file" >>"$KEEP.new/absent"
    fi
  done
  echo "$METHOD" >"$KEEP.new/method"
  echo "$NICS" >"$KEEP.new/nics"
  hostname >"$KEEP.new/host" 2>/dev/null || :
  for nic in $NICS; do remember "$nic"; done
  sync
  mv "$KEEP.new" "$KEEP"
}

# How the interface is now, for tools that do not have that in a file.
remember() {
  ip -o address show dev "$1" scope global 2>/dev/null >"$KEEP.new/$1.addresses" || :
  ip -4 route show default dev "$1" 2>/dev/null | sed 's/^/-4 /' >"$KEEP.new/$1.routes" || :
  ip -6 route show default dev "$1" 2>/dev/null | sed 's/^/-6 /' >>"$KEEP.new/$1.routes" || :
  if [ "$METHOD" = NetworkManager ]; then
    nmcli -g GENERAL.CON-UUID device show "$1" 2>/dev/null >"$KEEP.new/$1.connection" || :
  fi
}

put_back() {
  while read -r file; do rm -f "$ROOT$file"; done <"$KEEP/absent"
  (cd "$KEEP/files" && find . -type f) | while read -r file; do
    mkdir -p "$ROOT$(dirname "${file#.}")"
    cp -p "$KEEP/files/$file" "$ROOT${file#.}"
  done
  if [ -s "$KEEP/host" ]; then set_host "$(cat "$KEEP/host")"; fi
}

restore() {
  [ -d "$KEEP" ] || {
    echo 'nothing was changed'
    return 0
  }
  METHOD=$(cat "$KEEP/method")
  NICS=$(cat "$KEEP/nics")
  if [ "$METHOD" = ifupdown ]; then for nic in $NICS; do take_down "$nic"; done; fi
  put_back
  status=0
  case $METHOD in
    netplan) netplan apply || status=1 ;;
    NetworkManager)
      nmcli connection reload || status=1
      for nic in $NICS; do
        connection=$(cat "$KEEP/$nic.connection")
        [ -z "$connection" ] || nmcli connection up "$connection" ifname "$nic" || status=1
      done
      ;;
    ifupdown) for nic in $NICS; do bring_up "$nic" || status=1; done ;;
    ip) for nic in $NICS; do recall "$nic" || status=1; done ;;
  esac
  # Files are as they were; a repeat makes them so once more.
  [ "$status" = 0 ] || {
    echo "$METHOD did not take what was there before"
    return 1
  }
  rm -rf "$KEEP"
  echo "restored by $METHOD"
}

recall() {
  ip address flush dev "$1" scope global
  while read -r _ _ _ address _; do ip address add "$address" dev "$1"; done <"$KEEP/$1.addresses"
  # shellcheck disable=SC2086 # words of a route are wanted
  while read -r family route; do ip $family route replace ${route%% linkdown*} dev "$1"; done <"$KEEP/$1.routes"
}

# --- ifupdown --------------------------------------------------------------------------------------

# Debian's and busybox's differ in how they are told to do it whatever they remember.
take_down() { ifdown --force "$1" 2>/dev/null || ifdown -f "$1" 2>/dev/null || :; }
bring_up() {
  ip address flush dev "$1" scope global
  ifup --force "$1" 2>/dev/null || ifup -f "$1"
}

# The file without the stanzas of our interfaces in the families that are said something of.
without_ours() {
  awk -v nics=" $NICS " -v families=" $FAMILIES " '
    function ours(name) { return index(nics, " " name " ") > 0 }
    $1 == "iface" { skip = ours($2) && index(families, " " $3 " ") > 0 }
    $1 == "auto" || $1 ~ /^allow-/ {
      skip = 0; line = $1; count = 0
      for (i = 2; i <= NF; i++) if (!ours($i)) { line = line " " $i; count++ }
      if (count > 0) print line
      next
    }
    $1 == "mapping" || $1 ~ /^source/ || $1 == "rename" { skip = 0 }
    !skip' "$1"
}

# --- What is written -------------------------------------------------------------------------------

# put FILE MODE: its content is what comes in; a preview shows it.
put() {
  if [ "$MODE" = preview ]; then
    echo "== $1"
    cat
    return
  fi
  mkdir -p "$ROOT$(dirname "$1")" && rm -f "$ROOT$1.antipode" && cat >"$ROOT$1.antipode" &&
    chmod "$2" "$ROOT$1.antipode" && mv "$ROOT$1.antipode" "$ROOT$1" || : >"$KEEP/failed"
}

drop() {
  if [ "$MODE" = preview ]; then echo "== $1 is removed"; else rm -f "$ROOT$1"; fi
}

interface_files() {
  for file in /etc/network/interfaces "$ROOT"/etc/network/interfaces.d/*; do
    file=${file#"$ROOT"}
    if [ -f "$ROOT$file" ]; then echo "$file"; fi
  done
}

# Files of netplan that name one of our interfaces: they are replaced as a whole.
netplan_files() {
  for file in "$ROOT"/etc/netplan/*.yaml; do
    [ -f "$file" ] || continue
    for hint in $HINTS; do
      if grep -qiwF -e "$hint" "$file"; then
        echo "${file#"$ROOT"}"
        break
      fi
    done
  done
}

check_netplan() {
  for file in $(netplan_files); do
    [ "$file" != "$NETPLAN_FILE" ] || continue
    for other in $OTHERS; do
      if grep -qwF -e "$other" "$ROOT$file"; then
        refuse "$file is about $other as well: give the plan addresses of that interface too"
      fi
    done
  done
  if [ -z "$(netplan_files)" ] && grep -q '^ *match:' "$ROOT"/etc/netplan/*.yaml; then
    refuse "no file of /etc/netplan names $NICS, and some go by other properties"
  fi
}

files_to_change() {
  case $METHOD in
    netplan)
      netplan_files
      [ -e "$ROOT$NETPLAN_FILE" ] || echo "$NETPLAN_FILE"
      ;;
    NetworkManager) for nic in $NICS; do echo "/etc/NetworkManager/system-connections/antipode-$nic.nmconnection"; done ;;
    ifupdown) interface_files ;;
  esac
  if writes_resolver; then echo /etc/resolv.conf; fi
  if [ -n "$HOST" ]; then printf '%s\n' /etc/hostname /etc/hosts; fi
  if [ -d "$ROOT/etc/cloud" ]; then echo "$CLOUD"; fi
}

# Where a service writes it, it is a link, or the service is told by the interface's definition.
writes_resolver() {
  [ -n "$RESOLVER" ] && [ ! -L "$ROOT/etc/resolv.conf" ] && { [ "$METHOD" = ip ] || [ "$METHOD" = ifupdown ]; }
}

write_all() {
  # cloud-init would write its own at the next start.
  if [ -d "$ROOT/etc/cloud" ]; then
    printf 'network: {config: disabled}\npreserve_hostname: %s\n' "$([ -n "$HOST" ] && echo true || echo false)" |
      put "$CLOUD" 644
  fi
  case $METHOD in
    netplan)
      for file in $(netplan_files); do drop "$file"; done
      printf '%s' "$NETPLAN" | put "$NETPLAN_FILE" 600
      ;;
    NetworkManager)
      for nic in $NICS; do
        manager_file "$nic" | put "/etc/NetworkManager/system-connections/antipode-$nic.nmconnection" 600
      done
      ;;
    ifupdown)
      for file in $(interface_files); do
        {
          without_ours "$ROOT$file"
          if [ "$file" = /etc/network/interfaces ]; then printf '%s' "$IFUPDOWN"; fi
        } | put "$file" 644
      done
      ;;
    ip)
      if [ "$MODE" = preview ]; then
        echo '== until its next start'
        for nic in $NICS; do ip_commands "$nic"; done
      fi
      ;;
  esac
  if writes_resolver; then printf '%s' "$RESOLVER" | put /etc/resolv.conf 644; fi
  if [ -n "$HOST" ]; then write_host; fi
}

write_host() {
  echo "$HOST" | put /etc/hostname 644
  if [ -f "$ROOT/etc/hosts" ]; then
    awk -v new="$HOST" '$1 == "127.0.1.1" { print $1 "\t" new; next } { print }' "$ROOT/etc/hosts" |
      put /etc/hosts 644
  fi
  if [ "$MODE" = apply ]; then set_host "$HOST"; fi
}

set_host() {
  [ -z "$ROOT" ] || return 0
  if have hostnamectl && hostnamectl set-hostname "$1" 2>/dev/null; then return 0; fi
  hostname "$1"
}

# --- Making it so ----------------------------------------------------------------------------------

# lease FAMILY NAME: by whichever client is there.
lease() {
  if [ "$1" = -4 ] && have udhcpc; then
    udhcpc -i "$2" -n -q
  elif have dhclient; then
    dhclient "$1" "$2"
  else
    echo "no DHCP client for $2"
    return 1
  fi
}

activate() {
  case $METHOD in
    netplan) netplan apply ;;
    NetworkManager)
      nmcli connection reload
      for nic in $NICS; do nmcli connection up "antipode-$nic" || return 1; done
      ;;
    ifupdown) for nic in $NICS; do bring_up "$nic" || return 1; done ;;
    ip)
      for nic in $NICS; do
        ip_commands "$nic" >"$KEEP/commands"
        while read -r command; do eval "$command" || return 1; done <"$KEEP/commands"
      done
      ;;
  esac
}

# Only what is seen on the interface is so.
is_so() {
  for nic in $NICS; do
    for address in $(expected "$nic"); do
      ip -o address show dev "$nic" | grep -qiF " $address " || return 1
    done
  done
}

await_addresses() {
  waited=0
  until is_so; do
    [ "$waited" -lt "$WAIT_S" ] || {
      echo 'the addresses do not show on the interfaces'
      return 1
    }
    sleep 1
    waited=$((waited + 1))
  done
}

make_it_so() {
  if [ "$METHOD" = ifupdown ]; then for nic in $NICS; do take_down "$nic"; done; fi
  write_all
  [ ! -e "$KEEP/failed" ] && activate && await_addresses
}

case $MODE in
  restore) restore ;;
  *)
    METHOD=$(detect) || {
      echo "$METHOD"
      exit 3
    }
    # A second time, or after a crash: what is kept is what was there before the first.
    if [ "$MODE" = apply ] && [ -d "$KEEP" ]; then restore >/dev/null; fi
    echo "method: $METHOD"
    if [ "$METHOD" = netplan ]; then check_netplan; fi
    if [ "$MODE" = preview ]; then
      write_all
      exit 0
    fi
    # shellcheck disable=SC2046 # a list of files is wanted; none of them has blanks
    keep $(files_to_change)
    if ! make_it_so; then
      echo 'put back as it was:'
      restore || :
      exit 4
    fi
    ;;
esac
