#!/bin/sh
# libvirt's hook of Antipode: refuses to start a copy of a VM that runs at another site (docs/fencing.md, section 4).
# Written by the agent, which replaces it when it starts. It needs nothing but this file, a shell, and the records in
# $fence; for a VM without a record there, it reads three lines of its definition and ends.

fence=@FENCE@
site=@SITE@
site_name=@SITE_NAME@

[ "$2" = prepare ] || exit 0
LC_ALL=C
export LC_ALL

# libvirt writes the UUID in a line of its own, third of all, before anything that an owner may choose.
uuid=
while IFS= read -r line; do
  case $line in
    '  <uuid>'*'</uuid>') uuid=${line#*'<uuid>'}; uuid=${uuid%'</uuid>'}; break ;;
    '  <metadata'*|'  <title'*|'  <description'*) break ;;
  esac
done
case $uuid in ''|*[!0-9a-f-]*) exit 0 ;; esac
record=$fence/$uuid
[ -e "$record" ] || exit 0

refuse() {
  printf 'Antipode refuses to start VM %s: %s\n' "$1" "$2" >&2
  exit 1
}

vm= epoch= allowed= allowed_name= name= end=
{
  IFS= read -r magic
  while IFS=' ' read -r key value; do
    case $key in
      vm) vm=$value ;;
      epoch) epoch=$value ;;
      site) allowed=$value ;;
      site-name) allowed_name=$value ;;
      vm-name) name=$value ;;
      crc32) end=yes ;;
    esac
  done
} < "$record"
case $epoch in ''|*[!0-9]*) epoch=; esac
if [ "$magic" != 'antipode-fence 1' ] || [ "$vm" != "$uuid" ] || [ -z "$epoch" ] || [ -z "$allowed" ] || [ -z "$end" ]
then
  refuse "$1" "its fence record $record is damaged, so it is not known which site may run it. \
The agent of this host writes it again when it talks to its manager. To start the VM in spite of it, remove the file."
fi

# The mark in the definition: one element, which libvirt writes on one line.
marked=0 marked_site=
while IFS= read -r line; do
  case $line in
    *'"urn:antipode:epoch:1"'*)
      rest=${line#*' epoch="'}; [ "$rest" = "$line" ] || marked=${rest%%'"'*}
      rest=${line#*' site="'}; [ "$rest" = "$line" ] || marked_site=${rest%%'"'*}
      break ;;
    '  </metadata>'|'  <memory '*) break ;;
  esac
done
case $marked in ''|*[!0-9]*) marked=0 ;; esac
# A number that a shell cannot compare is no epoch of ours.
[ ${#marked} -le 15 ] || marked=0

# A definition that is newer than the record came from where more is known.
if [ "$marked" -gt "$epoch" ] && [ "$marked_site" = "$site" ]; then exit 0; fi

if [ "$allowed" != "$site" ]; then
  refuse "$name" "it runs at site $allowed_name since epoch $epoch; this copy, at site $site_name, \
is of epoch $marked and has yielded. Two running copies would overwrite each other's work. \
To run it here again, stop it at $allowed_name first, then on the manager of $site_name: antipode fence release $uuid"
fi
# Epoch 1 was never raised, so no other copy can have run: what the owner does to the definition then is his affair.
if [ "$epoch" -gt 1 ] && [ "$marked" -lt "$epoch" ]; then
  refuse "$name" "this definition is of epoch $marked, and the VM came to site $site_name with epoch $epoch: \
its disks may be an old copy. If they are the right ones, on the manager of $site_name: antipode fence release $uuid"
fi
exit 0
