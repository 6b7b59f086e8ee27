/** The order of a plan as a picture: priorities from left to right, and what waits for what. */

type PlanVm = {
  readonly vm_uuid: string;
  readonly vm_name: string;
  readonly priority: number;
  readonly depends_on: readonly string[];
  readonly start: string;
};

const BOX_WIDTH = 132;
const BOX_HEIGHT = 34;
const COLUMN = 180;
const ROW = 46;
const HEAD = 28;
const CHARACTERS = 15;

export function PlanPicture({ vms }: { vms: readonly PlanVm[] }) {
  const priorities = [...new Set(vms.map((vm) => vm.priority))].toSorted((a, b) => a - b);
  const places = new Map<string, { x: number; y: number }>();
  for (const [column, priority] of priorities.entries()) {
    const members = vms.filter((vm) => vm.priority === priority);
    for (const [row, vm] of members.entries())
      places.set(vm.vm_name, { x: column * COLUMN, y: HEAD + row * ROW });
  }
  const tallest = Math.max(1, ...priorities.map((one) => vms.filter((vm) => vm.priority === one).length));
  const width = Math.max(1, priorities.length) * COLUMN;
  const edges = vms.flatMap((vm) =>
    vm.depends_on.flatMap((name) => {
      const [from, to] = [places.get(name), places.get(vm.vm_name)];
      return from === undefined || to === undefined ? [] : [{ from, to, key: `${name} ${vm.vm_name}` }];
    }),
  );
  return (
    <div className="table-scroll">
      <svg
        className="plan-picture"
        width={width}
        height={HEAD + tallest * ROW}
        role="img"
        aria-label={words(vms)}
      >
        {priorities.map((priority, column) => (
          <text key={priority} className="site-line" x={column * COLUMN} y={14}>
            Priority {priority}
          </text>
        ))}
        {edges.map(({ from, key, to }) => (
          <path key={key} className="plan-edge" d={edgeOf(from, to)} />
        ))}
        {vms.map((vm) => {
          const { x, y } = places.get(vm.vm_name)!;
          const isLong = vm.vm_name.length > CHARACTERS;
          return (
            <g
              key={vm.vm_uuid}
              className={vm.start === 'off' ? 'plan-vm plan-vm-off' : 'plan-vm'}
              transform={`translate(${x} ${y})`}
            >
              <title>
                {vm.depends_on.length === 0 ? vm.vm_name : `${vm.vm_name} after ${vm.depends_on.join(', ')}`}
              </title>
              <rect width={BOX_WIDTH} height={BOX_HEIGHT} rx={8} />
              <text x={10} y={22}>
                {isLong ? `${vm.vm_name.slice(0, CHARACTERS - 1)}…` : vm.vm_name}
              </text>
            </g>
          );
        })}
      </svg>
    </div>
  );
}

type Place = { x: number; y: number };

/** Between columns from side to side; within one around the right. */
function edgeOf(from: Place, to: Place): string {
  const [y1, y2] = [from.y + BOX_HEIGHT / 2, to.y + BOX_HEIGHT / 2];
  const x1 = from.x + BOX_WIDTH;
  if (from.x === to.x) return `M${x1} ${y1} C${x1 + 30} ${y1} ${x1 + 30} ${y2} ${x1} ${y2}`;
  const middle = (x1 + to.x) / 2;
  return `M${x1} ${y1} C${middle} ${y1} ${middle} ${y2} ${to.x} ${y2}`;
}

function words(vms: readonly PlanVm[]): string {
  return vms.map((vm) => `${vm.vm_name} in priority ${vm.priority}${afterText(vm.depends_on)}`).join('; ');
}

function afterText(names: readonly string[]): string {
  return names.length === 0 ? '' : ` after ${names.join(', ')}`;
}
