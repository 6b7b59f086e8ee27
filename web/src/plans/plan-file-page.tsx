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
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { useLocation, useNavigate, useSearchParams } from 'react-router';
import { parse, stringify } from 'yaml';
import { addresses } from '#/addresses.ts';
import { call } from '#/api/call.ts';
import type { PlanFile } from '#/api/types.ts';
import { useCall } from '#/api/use-call.ts';
import { PageHead } from '#/shell/page-head.tsx';
import { ActionButton } from '#/shared/action-button.tsx';
import { ProblemAlert } from '#/shared/problem-alert.tsx';
import { canManage } from '#/shared/what-may-be-done.ts';
import { ChangesList } from './changes-list.tsx';

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
  // What was changed in the form and not saved yet.
  const given = (useLocation().state as { file?: PlanFile } | null)?.file;
  const file = useCall('GET /api/v1/plans/{id}/file', [], {
    params: { id: name ?? '' },
    isEnabled: name !== null && given === undefined,
  });
  const first = given ?? file.data;
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
        {first !== undefined && <Editor first={stringify(first)} name={name ?? undefined} />}
      </PageSection>
    </>
  );
}

function Editor({ first, name }: { first: string; name?: string | undefined }) {
  const queries = useQueryClient();
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
      await queries.invalidateQueries();
      await navigate(addresses.plan(file!.plan.name));
    } catch (error) {
      setFailure(error instanceof Error ? error : new Error('it failed'));
    }
  };
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
            {name !== undefined && (
              <Button
                variant="secondary"
                isDisabled={file?.plan.name !== name}
                onClick={() => void navigate(addresses.planForm(name), { state: { file } })}
              >
                As a form
              </Button>
            )}
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
            {look.data !== undefined && <ChangesList reply={look.data} />}
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
