-- Webhooks: endpoints of users, and of the operator for all wallets; what goes to them are deliveries.

create table notifier.webhook_endpoints (
  id uuid primary key,
  -- Null: the operator's, which gets the events of all wallets.
  owner_id uuid,
  url text not null,
  description text,
  -- Empty: all.
  event_types text[] not null default '{}',
  -- The newest first, each as {"secret": a JWE that only the notifier opens, "expiresAt": null or a time}.
  secrets jsonb not null,
  state text not null default 'active' check (state in ('active', 'paused', 'disabled')),
  created_at timestamptz not null default now(),
  -- Since its last success; null where it has not failed since.
  failing_since timestamptz,
  failures int not null default 0,
  next_attempt_at timestamptz not null default now(),
  -- One instance delivers to an endpoint at a time, so that its events go in order.
  claim uuid,
  claimed_until timestamptz
);
create index webhook_endpoints_waiting on notifier.webhook_endpoints (next_attempt_at) where state = 'active';
create index webhook_endpoints_of_owner on notifier.webhook_endpoints (owner_id, created_at);

alter table notifier.deliveries
  alter column user_id drop not null,
  add column endpoint_id uuid references notifier.webhook_endpoints on delete cascade,
  add column event_type text,
  -- The body as it is sent, the same with each try.
  add column payload text,
  -- The order of an endpoint's events: it grows with each transaction of a partition.
  add column seq bigint generated always as identity,
  -- The last tries, oldest first: time, status or error, milliseconds, beginning of the answer.
  add column tries jsonb not null default '[]',
  drop constraint deliveries_content,
  add constraint deliveries_content check (num_nonnulls(template, notice, payload) = 1),
  add check ((endpoint_id is null) = (payload is null)),
  add check ((user_id is null) <= (endpoint_id is not null));
create index deliveries_of_endpoint_due on notifier.deliveries (endpoint_id, next_attempt_at, seq) where state = 'due' and endpoint_id is not null;
create index deliveries_of_endpoint on notifier.deliveries (endpoint_id, seq desc) where endpoint_id is not null;

create view notifier_api.webhook_endpoints as
  select id, owner_id, url, description, event_types, secrets, state, created_at, failing_since, failures, next_attempt_at,
    claim, claimed_until
  from notifier.webhook_endpoints;
create view notifier_api.webhook_deliveries as
  select command_id as id, channel, endpoint_id, user_id, event_type, payload, state, attempts, next_attempt_at, last_error,
    requested_at, expires_at, sent_at, seq, tries
  from notifier.deliveries where endpoint_id is not null;

grant select, update on notifier.webhook_endpoints to notifier;
grant select, insert, update, delete on notifier_api.webhook_endpoints to notifier_client;
grant select, insert, update (state, next_attempt_at, expires_at, sent_at) on notifier_api.webhook_deliveries to notifier_client;
