/** What every page stands on: the cache of replies, the session, the router. */
import { QueryCache, QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { createBrowserRouter, Navigate } from 'react-router';
import { RouterProvider } from 'react-router/dom';
import { Refused } from './api/call.ts';
import { signedOut, useSession } from './api/session.ts';
import { LoginPage } from './login/login-page.tsx';
import { OverviewPage } from './overview/overview-page.tsx';
import { Shell } from './shell/shell.tsx';
import { LostPage } from './shell/lost-page.tsx';

/** Pages but the first come when they are wanted. */
const lazy = (load: () => Promise<() => React.JSX.Element>) => async () => ({ Component: await load() });

const router = createBrowserRouter([
  {
    Component: Shell,
    ErrorBoundary: LostPage,
    HydrateFallback: () => <></>,
    children: [
      { index: true, Component: OverviewPage },
      { path: 'vms', lazy: lazy(async () => (await import('./vms/vms-page.tsx')).VmsPage) },
      { path: 'vms/:uuid', lazy: lazy(async () => (await import('./vm/vm-page.tsx')).VmPage) },
      { path: 'protect', lazy: lazy(async () => (await import('./protect/protect-page.tsx')).ProtectPage) },
      {
        path: 'recoveries/:id',
        lazy: lazy(async () => (await import('./recoveries/recovery-page.tsx')).RecoveryPage),
      },
      {
        path: 'recoveries/:id/console',
        lazy: lazy(async () => (await import('./console/console-page.tsx')).ConsolePage),
      },
      { path: 'plans', lazy: lazy(async () => (await import('./plans/plans-page.tsx')).PlansPage) },
      { path: 'plans/:name', lazy: lazy(async () => (await import('./plans/plan-page.tsx')).PlanPage) },
      {
        path: 'plan-file',
        lazy: lazy(async () => (await import('./plans/plan-file-page.tsx')).PlanFilePage),
      },
      {
        path: 'plan-form',
        lazy: lazy(async () => (await import('./plans/plan-form-page.tsx')).PlanFormPage),
      },
      { path: 'runs/:id', lazy: lazy(async () => (await import('./runs/run-page.tsx')).RunPage) },
      { path: 'reports', lazy: lazy(async () => (await import('./runs/reports-page.tsx')).ReportsPage) },
      { path: 'sites', lazy: lazy(async () => (await import('./site/site-page.tsx')).SitePage) },
      { path: 'alarms', lazy: lazy(async () => (await import('./events/alarms-page.tsx')).AlarmsPage) },
      { path: 'events', lazy: lazy(async () => (await import('./events/events-page.tsx')).EventsPage) },
      { path: 'audit', lazy: lazy(async () => (await import('./events/audit-page.tsx')).AuditPage) },
      { path: 'access', lazy: lazy(async () => (await import('./access/access-page.tsx')).AccessPage) },
      { path: 'account', lazy: lazy(async () => (await import('./access/account-page.tsx')).AccountPage) },
      { path: 'settings', lazy: lazy(async () => (await import('./site/settings-page.tsx')).SettingsPage) },
      // The link for the first administrator, opened by somebody who has signed in.
      { path: 'first', element: <Navigate to="/" replace /> },
      { path: 'reset', element: <Navigate to="/" replace /> },
      { path: '*', Component: LostPage },
    ],
  },
]);

const queries = new QueryClient({
  queryCache: new QueryCache({
    onError: (error) => {
      if (error instanceof Refused && error.status === 401) signedOut();
    },
  }),
  defaultOptions: {
    queries: {
      // Replies are asked for again when the event stream says so, never because time passed.
      staleTime: Infinity,
      refetchOnWindowFocus: false,
      retry: (failures, error) => failures < 3 && error instanceof Refused && error.status === 0,
    },
  },
});

export function App() {
  return (
    <QueryClientProvider client={queries}>
      <Gate />
    </QueryClientProvider>
  );
}

function Gate() {
  const session = useSession();
  if (session.state === 'in') return <RouterProvider router={router} />;
  return session.state === 'out' ? <LoginPage /> : <></>;
}
