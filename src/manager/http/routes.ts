/** All routes of the manager: the one table of what there is and who may call it. */
import { ACCESS_ROUTES } from './access-routes.ts';
import { ADMIN_ROUTES } from './admin-routes.ts';
import { ALARM_ROUTES } from './alarm-routes.ts';
import { AUDIT_ROUTES } from './audit-routes.ts';
import { CONSOLE_ROUTES } from './console-routes.ts';
import { CONTROL_ROUTES } from './control-routes.ts';
import { HEALTH_ROUTES } from './health-routes.ts';
import { FENCE_ROUTES } from './fence-routes.ts';
import { OVERVIEW_ROUTES } from './overview-routes.ts';
import { OIDC_ROUTES } from './oidc-routes.ts';
import { PAGE_ROUTES } from './page-routes.ts';
import { PEER_ROUTES } from './peer-routes.ts';
import { PLAN_ROUTES } from './plan-routes.ts';
import { PROTECTION_ROUTES } from './protection-routes.ts';
import { READINESS_ROUTES } from './readiness-routes.ts';
import { REPORT_ROUTES } from './report-routes.ts';
import { REBUILD_ROUTES } from './rebuild-routes.ts';
import { RECOVERY_ROUTES } from './recovery-routes.ts';
import { REPROTECTION_ROUTES } from './reprotection-routes.ts';
import type { Route } from './route.ts';
import { RUN_ROUTES } from './run-routes.ts';
import { SITE_ROUTES } from './site-routes.ts';
import { USER_ROUTES } from './user-routes.ts';

export const ROUTES: readonly Route[] = [
  ...PAGE_ROUTES,
  ...HEALTH_ROUTES,
  ...SITE_ROUTES,
  ...OVERVIEW_ROUTES,
  ...PROTECTION_ROUTES,
  ...RECOVERY_ROUTES,
  ...CONSOLE_ROUTES,
  ...PLAN_ROUTES,
  ...REPROTECTION_ROUTES,
  ...RUN_ROUTES,
  ...FENCE_ROUTES,
  ...ACCESS_ROUTES,
  ...OIDC_ROUTES,
  ...USER_ROUTES,
  ...ADMIN_ROUTES,
  ...AUDIT_ROUTES,
  ...ALARM_ROUTES,
  ...READINESS_ROUTES,
  ...REBUILD_ROUTES,
  ...REPORT_ROUTES,
  ...CONTROL_ROUTES,
  ...PEER_ROUTES,
];
