-- Addresses that bounced, or whose owners complained: no mail goes to them until staff lift it.

alter table gateway.users
  add column mail_blocked_at timestamptz,
  add column mail_block_reason text,
  add check ((mail_blocked_at is null) = (mail_block_reason is null));

create or replace view gateway_api.users as
  select id as user_id, email, full_name, email_verified_at is not null as email_verified,
    mail_blocked_at is not null as mail_blocked
  from gateway.users;
