/** The top of a page: the way back, its name, what can be done. */
import {
  Breadcrumb,
  BreadcrumbItem,
  Flex,
  FlexItem,
  PageBreadcrumb,
  PageSection,
  Title,
} from '@patternfly/react-core';
import { useEffect, type ReactNode } from 'react';
import { Link } from 'react-router';

type Crumb = readonly [name: string, address: string];

export function PageHead(props: {
  title: string;
  crumbs?: readonly Crumb[];
  beside?: ReactNode;
  actions?: ReactNode;
  children?: ReactNode;
}) {
  const { actions, beside, children, crumbs = [], title } = props;
  useEffect(() => {
    document.title = `${title} · Antipode`;
  }, [title]);
  return (
    <>
      {crumbs.length > 0 && (
        <PageBreadcrumb hasBodyWrapper={false}>
          <Breadcrumb>
            {crumbs.map(([name, address]) => (
              <BreadcrumbItem
                key={address}
                render={({ className }) => (
                  <Link className={className} to={address}>
                    {name}
                  </Link>
                )}
              />
            ))}
            <BreadcrumbItem isActive>{title}</BreadcrumbItem>
          </Breadcrumb>
        </PageBreadcrumb>
      )}
      <PageSection hasBodyWrapper={false} className="page-head">
        <Flex alignItems={{ default: 'alignItemsCenter' }} gap={{ default: 'gapMd' }}>
          <FlexItem>
            <Title headingLevel="h1">{title}</Title>
          </FlexItem>
          {beside !== undefined && <FlexItem>{beside}</FlexItem>}
          {actions !== undefined && (
            <FlexItem align={{ default: 'alignRight' }}>
              <Flex gap={{ default: 'gapSm' }}>{actions}</Flex>
            </FlexItem>
          )}
        </Flex>
        {children}
      </PageSection>
    </>
  );
}
