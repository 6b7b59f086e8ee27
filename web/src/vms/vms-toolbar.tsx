/** Search, filter, and what can be done with what is selected. */
import {
  Button,
  FormSelect,
  FormSelectOption,
  SearchInput,
  Toolbar,
  ToolbarContent,
  ToolbarItem,
} from '@patternfly/react-core';
import { useEffect, useState } from 'react';
import { useNavigate } from 'react-router';
import { addresses } from '#/addresses.ts';
import type { Standing, VmTableQuery } from '#/api/types.ts';
import { count, plural } from '#/lib/format.ts';
import { STANDINGS } from '#/shared/standing-label.tsx';
import type { VmRows } from './use-vm-rows.ts';

/** A pause in typing after which is searched. */
const TYPING_MS = 150;
const ORDER: readonly Standing[] = ['violated', 'unknown', 'none', 'met', 'unprotected', 'refused', 'kept'];

export function VmsToolbar(props: {
  query: VmTableQuery;
  rows: VmRows;
  selected: ReadonlyMap<string, string>;
  onChange: (next: { search?: string; standing?: string }) => void;
  onSelect: (selected: ReadonlyMap<string, string>) => void;
}) {
  const { onChange, onSelect, query, rows, selected } = props;
  const navigate = useNavigate();
  const [text, setText] = useState(query.search ?? '');
  useEffect(() => {
    if (text === (query.search ?? '')) return undefined;
    const timer = setTimeout(() => onChange({ search: text }), TYPING_MS);
    return () => clearTimeout(timer);
  }, [onChange, query.search, text]);
  return (
    <Toolbar>
      <ToolbarContent>
        <ToolbarItem>
          <SearchInput
            aria-label="Search by name, host or UUID"
            placeholder="Name, host or UUID"
            value={text}
            onChange={(_event, value) => setText(value)}
            onClear={() => setText('')}
          />
        </ToolbarItem>
        <ToolbarItem>
          <FormSelect
            aria-label="Show"
            value={query.standing ?? ''}
            onChange={(_event, value) => onChange({ standing: value })}
          >
            <FormSelectOption value="" label={`All${counted(rows.counts?.all)}`} />
            {ORDER.map((standing) => (
              <FormSelectOption
                key={standing}
                value={standing}
                label={`${STANDINGS[standing].word}${counted(rows.counts?.[standing])}`}
              />
            ))}
          </FormSelect>
        </ToolbarItem>
        <ToolbarItem>
          <Button variant="primary" onClick={() => void navigate(addresses.protect([...selected.values()]))}>
            {selected.size === 0 ? 'Protect…' : `Protect ${plural(selected.size, 'VM')}…`}
          </Button>
        </ToolbarItem>
        {selected.size > 0 && (
          <ToolbarItem>
            <Button variant="link" onClick={() => onSelect(new Map())}>
              Clear selection
            </Button>
          </ToolbarItem>
        )}
        <ToolbarItem align={{ default: 'alignEnd' }} alignSelf="center">
          <span className="subtle" role="status">
            {rows.total === undefined ? '' : plural(rows.total, 'VM')}
          </span>
        </ToolbarItem>
      </ToolbarContent>
    </Toolbar>
  );
}

function counted(value: number | undefined): string {
  return value === undefined ? '' : ` (${count(value)})`;
}
