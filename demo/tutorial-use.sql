BEGIN;
INSERT INTO orders (id, region, customer_id, total)
VALUES ('ORD-US-001', 'us-east', 'CUST-42', 149.99);
SELECT tide.outbox_publish('order_events', 'orders', jsonb_build_object(
'order_id', 'ORD-US-001',
'region', 'us-east',
'customer_id', 'CUST-42',
'total', 149.99
));
COMMIT;
