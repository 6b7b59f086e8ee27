/** What surrounds every page: where one is, where one can go, and whether what is shown is live. */
import { Banner, Page, PageSidebar, PageSidebarBody, SkipToContent } from '@patternfly/react-core';
import { useQueryClient } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { Outlet, useLocation } from 'react-router';
import { Live, type LiveState } from '#/api/live.ts';
import { signedOut } from '#/api/session.ts';
import { SiteMasthead } from './masthead.tsx';
import { Navigation } from './navigation.tsx';

const MAIN = 'main-content';

export function Shell() {
  const live = useLive();
  const { pathname } = useLocation();
  useEffect(() => {
    document.getElementById(MAIN)?.scrollTo(0, 0);
  }, [pathname]);
  return (
    <Page
      mainContainerId={MAIN}
      masthead={<SiteMasthead live={live} />}
      sidebar={
        <PageSidebar>
          <PageSidebarBody>
            <Navigation />
          </PageSidebarBody>
        </PageSidebar>
      }
      skipToContent={<SkipToContent href={`#${MAIN}`}>Skip to content</SkipToContent>}
      isManagedSidebar
      isContentFilled
    >
      {live === 'away' && (
        <Banner color="yellow" role="status">
          The manager does not answer. What is shown is from before; ages are counted on. This page comes back
          by itself.
        </Banner>
      )}
      <Outlet />
    </Page>
  );
}

function useLive(): LiveState {
  const queries = useQueryClient();
  const [state, setState] = useState<LiveState>('connecting');
  useEffect(() => {
    const stop = new AbortController();
    new Live(queries, setState).run(stop.signal).catch(signedOut);
    return () => stop.abort();
  }, [queries]);
  return state;
}
