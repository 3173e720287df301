-- Everything that goes out by a channel is a delivery: mails by template, and mails of notices.

alter table notifier.deliveries
  add column channel text not null default 'mail',
  -- Of a notice, which its words are put to at each try: type, data, about_user_id, transfer_id, created_at.
  add column notice jsonb,
  -- Whose claim it is: what an instance finds out after its claim has run out changes nothing any more.
  add column claim uuid,
  alter column template drop not null,
  drop constraint deliveries_state_check,
  drop constraint deliveries_check,
  add check (state in ('due', 'sent', 'expired', 'failed', 'suppressed')),
  add check (secret is null or state = 'due'),
  add constraint deliveries_content check ((template is null) = (notice is not null)),
  add check (template is null or state <> 'due' or secret is not null);

drop index notifier.deliveries_due;
create index deliveries_due on notifier.deliveries (channel, next_attempt_at) where state = 'due';
create index deliveries_due_by_expiry on notifier.deliveries (expires_at) where state = 'due';

-- The kinds of notices that are mailed to users who have not chosen: as the notifier's setting says.
create table notifier.mailed_kinds (kind text primary key);
create view notifier_api.mailed_kinds as select kind from notifier.mailed_kinds;

grant select, insert, delete on notifier.mailed_kinds to notifier;
grant select on notifier_api.mailed_kinds to notifier_client;
