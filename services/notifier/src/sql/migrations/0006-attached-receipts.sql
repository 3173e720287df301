-- Whether a user wants the receipt as PDF with the mail that tells of moved money.

alter table notifier.preferences add column attach_receipts boolean not null default false;

create or replace view notifier_api.preferences as
  select user_id, language, turned_on, turned_off, attach_receipts from notifier.preferences;
