/** The sites and what flows between them. The dashes move while data does, faster when there is more of it. */
import { useNavigate } from 'react-router';
import { addresses } from '#/addresses.ts';
import type { Flow, Overview, Site } from '#/api/types.ts';
import { bytes, plural } from '#/lib/format.ts';

const WIDTH = 720;
const BOX_WIDTH = 200;
const BOX_HEIGHT = 124;
const ROW = 160;
/** Bytes a second at which the dashes move slowest and fastest. */
const SLOW = 1024;
const FAST = 256 * 1024 ** 2;

export function SitesPicture({ overview }: { overview: Overview }) {
  const self = overview.sites.find((site) => site.is_self)!;
  const others = overview.sites.filter((site) => !site.is_self);
  const rows = Math.max(1, others.length);
  const height = rows * ROW - (ROW - BOX_HEIGHT) + 16;
  const selfY = (height - BOX_HEIGHT) / 2;
  return (
    <svg
      className="sites-picture"
      viewBox={`0 0 ${WIDTH} ${height}`}
      role="img"
      aria-label={describe(overview)}
    >
      {others.map((other, index) => {
        const y = 8 + index * ROW;
        const flow = (from: string, to: string) =>
          overview.flows.find((one) => one.from === from && one.to === to);
        const ends = { fromY: selfY + BOX_HEIGHT / 2, toY: y + BOX_HEIGHT / 2 };
        return (
          <g key={other.id}>
            <FlowLine flow={flow(self.name, other.name)} {...ends} isBack={false} />
            <FlowLine flow={flow(other.name, self.name)} {...ends} isBack />
            <SiteBox site={other} x={WIDTH - BOX_WIDTH - 4} y={y} lines={[other.address, reach(other)]} />
          </g>
        );
      })}
      <SiteBox
        site={self}
        x={4}
        y={selfY}
        lines={[members(overview.hosts, 'host'), members(overview.replication_servers, 'replication server')]}
      />
      {others.length === 0 && (
        <text className="site-line" x={WIDTH / 2 + 60} y={height / 2} textAnchor="middle">
          Paired with no other site yet.
        </text>
      )}
    </svg>
  );
}

function SiteBox({ site, x, y, lines }: { site: Site; x: number; y: number; lines: readonly string[] }) {
  const navigate = useNavigate();
  const isAway = site.is_reachable === false;
  return (
    <g
      className={`site-box${isAway ? ' site-box-away' : ''}${site.is_self ? ' site-box-self' : ''}`}
      transform={`translate(${x} ${y})`}
      onClick={() => void navigate(addresses.sites)}
    >
      <rect width={BOX_WIDTH} height={BOX_HEIGHT} rx={14} />
      <text className="site-name" x={18} y={38}>
        {site.name}
        {site.is_self ? ' (here)' : ''}
      </text>
      {lines.map((line, index) => (
        <text key={line} className="site-line" x={18} y={66 + index * 22}>
          {line}
        </text>
      ))}
    </g>
  );
}

function FlowLine({
  flow,
  fromY,
  toY,
  isBack,
}: {
  flow: Flow | undefined;
  fromY: number;
  toY: number;
  isBack: boolean;
}) {
  if (flow === undefined || flow.vm_count === 0) return null;
  const shift = isBack ? 26 : -26;
  const [x1, x2] = [BOX_WIDTH + 14, WIDTH - BOX_WIDTH - 14];
  const [y1, y2] = [fromY + shift, toY + shift];
  const look = flow.violated_count > 0 ? 'violated' : flow.unknown_count > 0 ? 'unknown' : 'met';
  const middle = (x1 + x2) / 2;
  const path = isBack
    ? `M${x2} ${y2} C${middle} ${y2} ${middle} ${y1} ${x1} ${y1}`
    : `M${x1} ${y1} C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`;
  const endX = isBack ? x1 : x2;
  const endY = isBack ? y1 : y2;
  return (
    <g className={`flow flow-${look}`}>
      <path className="flow-bed" d={path} />
      <path
        className="flow-move"
        d={path}
        style={{
          animationDuration: `${seconds(flow.bytes_per_s)}s`,
          animationPlayState: flow.bytes_per_s > 0 ? 'running' : 'paused',
        }}
      />
      <path
        className="flow-head"
        d={isBack ? `M${endX} ${endY} l9 -6 v12 z` : `M${endX} ${endY} l-9 -6 v12 z`}
      />
      <text className="flow-words" x={middle} y={(y1 + y2) / 2 + (isBack ? 22 : -12)} textAnchor="middle">
        {flowWords(flow)}
      </text>
    </g>
  );
}

function flowWords(flow: Flow): string {
  const late = flow.violated_count > 0 ? ` · ${flow.violated_count} late` : '';
  return `${plural(flow.vm_count, 'VM')} · ${bytes(flow.bytes_per_s)}/s${late}`;
}

/** How long a dash takes to the place of the next one: from four seconds down to a quarter, by the logarithm. */
function seconds(bytesPerS: number): number {
  const part = Math.log(Math.max(1, bytesPerS / SLOW)) / Math.log(FAST / SLOW);
  return 4 - 3.75 * Math.min(1, part);
}

function members({ alive, total }: { alive: number; total: number }, what: string): string {
  return alive === total ? plural(total, what) : `${alive} of ${plural(total, what)}`;
}

function reach(site: Site): string {
  if (site.is_reachable === null) return 'not asked yet';
  return site.is_reachable ? 'answers' : 'does not answer';
}

function describe({ flows }: Overview): string {
  const words = flows
    .filter((flow) => flow.vm_count > 0)
    .map(
      (flow) =>
        `${flow.from} replicates ${plural(flow.vm_count, 'VM')} to ${flow.to}, ${flow.violated_count} of them late`,
    );
  return words.length === 0 ? 'Nothing is replicated between the sites.' : `${words.join('; ')}.`;
}
