-- What became of an event here, and when, for the timeline of a transfer: without secrets, payloads and what receivers
-- answered. Rows of a version before have no time.
alter table notifier.notices add column stored_at timestamptz;
alter table notifier.notices alter column stored_at set default now();
alter table notifier.deliveries add column stored_at timestamptz;
alter table notifier.deliveries alter column stored_at set default now();

create or replace view notifier_api.notices as
  select user_id, seq, id, type, data, about_user_id, transfer_id, title, body, read_at, created_at, stored_at
  from notifier.notices;
create view notifier_api.positions as select topic, partition, next_offset from notifier.positions;
create view notifier_api.deliveries as
  select command_id as id, channel, user_id, endpoint_id, coalesce(template, notice->>'type', event_type) as about, state,
    attempts, next_attempt_at, last_error, requested_at, expires_at, sent_at, stored_at,
    (select coalesce(jsonb_agg(one - 'answer' order by n), '[]') from jsonb_array_elements(tries) with ordinality as t (one, n))
      as tries
  from notifier.deliveries;

-- By which request a webhook was changed, in which role and from where, as the transaction says beside who did it: the event
-- of the change names the same.
alter table notifier.webhook_changes add column cause jsonb;
alter table notifier.webhook_changes
  alter column cause set default (nullif(current_setting('pennywire.change', true), '')::jsonb -> 'cause');
create or replace view notifier_api.webhook_changes as
  select id, seq, kind, endpoint_id, owner_id, url, event_types, state, changed, by_user_id, reason, staff_reason, changed_at,
    cause
  from notifier.webhook_changes;

-- The id of what goes to an endpoint because of an event, as insertWebhooks derives it.
create function notifier_api.webhook_delivery_id(cause text, event_type text, endpoint uuid) returns uuid
language sql immutable as
  $$ select overlay(overlay(md5(cause || event_type || endpoint::text) placing '8' from 13) placing '8' from 17)::uuid $$;
revoke all on function notifier_api.webhook_delivery_id(text, text, uuid) from public;

grant select on notifier_api.positions, notifier_api.deliveries to notifier_client;
grant execute on function notifier_api.webhook_delivery_id(text, text, uuid) to notifier_client;
