-- Endpoints that are well and those that are not are claimed apart, each into slots of its own.

alter table notifier.webhook_endpoints
  -- Whether it has ever taken a delivery at its address: before, nobody knows whether it is well.
  add column proven boolean not null default false;
update notifier.webhook_endpoints set proven = true where failing_since is null;

drop index notifier.webhook_endpoints_waiting;
create index webhook_endpoints_well on notifier.webhook_endpoints (next_attempt_at)
  where state = 'active' and proven and failures = 0;
create index webhook_endpoints_unwell on notifier.webhook_endpoints (next_attempt_at)
  where state = 'active' and not (proven and failures = 0);
create index webhook_endpoints_failing on notifier.webhook_endpoints (id) where failing_since is not null;
create index webhook_endpoints_disabled on notifier.webhook_endpoints (id) where state = 'disabled';

create or replace view notifier_api.webhook_endpoints as
  select id, owner_id, url, description, event_types, secrets, state, created_at, failing_since, failures, next_attempt_at,
    claim, claimed_until, turned_on_at, proven
  from notifier.webhook_endpoints;
