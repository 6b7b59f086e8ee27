/**
 * A plan with its groups and mappings as YAML, as `antipode plan export` writes it: what a change comes to is shown
 * while one types, and applied as a whole or not at all.
 */
import {
  ActionGroup,
  Button,
  Card,
  CardBody,
  CardTitle,
  Form,
  FormGroup,
  FormHelperText,
  Grid,
  GridItem,
  HelperText,
  HelperTextItem,
  PageSection,
  TextArea,
} from '@patternfly/react-core';
import { useQuery } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { useNavigate, useSearchParams } from 'react-router';
import { parse, stringify } from 'yaml';
import { addresses } from '#/addresses.ts';
import { call } from '#/api/call.ts';
import type { Body } from '#/api/types.ts';
import { useCall } from '#/api/use-call.ts';
import { PageHead } from '#/shell/page-head.tsx';
import { ActionButton } from '#/shared/action-button.tsx';
import { ProblemAlert } from '#/shared/problem-alert.tsx';
import { canManage } from '#/shared/what-may-be-done.ts';
import { FindingsList } from './findings-list.tsx';

type PlanFile = Body<'POST /api/v1/plan-files'>['file'];

const TYPING_MS = 400;
const EXAMPLE = `groups:
  - name: shop
    site: west
    vms: [shop-db, shop-web]
plan:
  name: shop
  groups: [shop]
  vms:
    shop-db: { priority: 1 }
    shop-web: { priority: 2, depends_on: [shop-db] }
`;

export function PlanFilePage() {
  const [search] = useSearchParams();
  const name = search.get('plan');
  const file = useCall('GET /api/v1/plans/{id}/file', [], {
    params: { id: name ?? '' },
    isEnabled: name !== null,
  });
  const title = name === null ? 'New plan' : `Edit ${name}`;
  return (
    <>
      <PageHead
        title={title}
        crumbs={[
          ['Recovery plans', addresses.plans],
          ...(name === null ? [] : [[name, addresses.plan(name)] as const]),
        ]}
      />
      <PageSection hasBodyWrapper={false} isFilled>
        <ProblemAlert error={file.error} />
        {name === null && <Editor first={EXAMPLE} />}
        {file.data !== undefined && <Editor first={stringify(file.data)} />}
      </PageSection>
    </>
  );
}

function Editor({ first }: { first: string }) {
  const [text, setText] = useState(first);
  const [settled, setSettled] = useState(first);
  const [failure, setFailure] = useState<Error>();
  const navigate = useNavigate();
  useEffect(() => {
    const timer = setTimeout(() => setSettled(text), TYPING_MS);
    return () => clearTimeout(timer);
  }, [text]);
  const { file, wrong } = read(settled);
  const look = useQuery({
    queryKey: ['POST /api/v1/plan-files', settled],
    queryFn: ({ signal }) => call('POST /api/v1/plan-files', { body: { file: file!, apply: false }, signal }),
    enabled: file !== undefined,
    gcTime: 0,
  });
  const isWrong = look.data?.problems.some((problem) => problem.severity === 'error') === true;
  const apply = async () => {
    try {
      await call('POST /api/v1/plan-files', { body: { file: file!, apply: true } });
      await navigate(addresses.plan(file!.plan.name));
    } catch (error) {
      setFailure(error instanceof Error ? error : new Error('it failed'));
    }
  };
  const changes = (look.data?.changes ?? []).filter((change) => change.change !== 'none');
  const whyNot =
    wrong ??
    (look.data === undefined || isWrong ? 'What is found beside has to be put right first.' : undefined);
  return (
    <Grid hasGutter>
      <GridItem lg={7}>
        <Form onSubmit={(event) => event.preventDefault()}>
          <FormGroup label="Plan, groups and mappings (YAML)" fieldId="plan-text">
            <TextArea
              id="plan-text"
              className="plan-text"
              spellCheck={false}
              value={text}
              validated={wrong === undefined ? 'default' : 'error'}
              onChange={(_event, value) => setText(value)}
            />
            {wrong !== undefined && (
              <FormHelperText>
                <HelperText>
                  <HelperTextItem variant="error">{wrong}</HelperTextItem>
                </HelperText>
              </FormHelperText>
            )}
          </FormGroup>
          <ActionGroup>
            <ActionButton
              name="Apply"
              variant="primary"
              whyNot={canManage('plan.manage') ?? (text === settled ? whyNot : 'It is being checked.')}
              onClick={() => void apply()}
            />
            <Button variant="link" onClick={() => void navigate(addresses.plans)}>
              Cancel
            </Button>
          </ActionGroup>
        </Form>
      </GridItem>
      <GridItem lg={5}>
        <Card>
          <CardTitle component="h2">What it would change</CardTitle>
          <CardBody>
            <ProblemAlert error={failure ?? look.error} />
            {look.data !== undefined && (
              <>
                {changes.length === 0 && <p className="subtle">Nothing.</p>}
                {changes.map((change) => (
                  <div key={`${change.kind} ${change.name}`}>
                    <strong>
                      {change.kind} {change.name}: {change.change}
                    </strong>
                    <ul>
                      {change.details.map((detail) => (
                        <li key={detail}>{detail}</li>
                      ))}
                    </ul>
                  </div>
                ))}
                <FindingsList findings={[]} problems={look.data.problems} />
              </>
            )}
          </CardBody>
        </Card>
      </GridItem>
    </Grid>
  );
}

/** What is no YAML says in which line. */
function read(text: string): { file?: PlanFile; wrong?: string } {
  try {
    const file = parse(text) as PlanFile | null;
    if (typeof file !== 'object' || file === null || !('plan' in file))
      return { wrong: 'There is no plan in it.' };
    return { file };
  } catch (error) {
    return { wrong: error instanceof Error ? error.message.split('\n')[0]! : 'It is no YAML.' };
  }
}
