CREATE EXTENSION pg_tide;
SELECT tide.outbox_create('order_events');
SELECT tide.inbox_create('replicated_orders');
SELECT tide.relay_set_outbox(
'eu-orders-publish',
'order_events',
'{
"sink_type": "nats",
"url": "nats://nats-eu:4222",
"subject_template": "orders.{op}.eu-west",
"stream": "ORDERS"
}'::jsonb
);
SELECT tide.relay_set_inbox(
'us-orders-subscribe',
'replicated_orders',
'{
"source_type": "nats",
"url": "nats://nats-eu:4222",
"subject": "orders.*.us-east",
"stream": "ORDERS",
"consumer_group": "eu-west-replica",
"durable_name": "eu-west-replica"
}'::jsonb
);
