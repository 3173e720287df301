-- Mails that are over and old notifications are purged in short batches, each found by its time.
grant delete on notifier.deliveries, notifier.notifications to notifier;
create index deliveries_by_expiry on notifier.deliveries (expires_at) where state <> 'due';
create index notifications_by_time on notifier.notifications (created_at);
