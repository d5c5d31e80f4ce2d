CREATE EXTENSION pg_tide;
SELECT tide.outbox_create('order_events');
SELECT tide.inbox_create('replicated_orders');
SELECT tide.relay_set_outbox(
'us-orders-publish',
'order_events',
'{
"sink_type": "nats",
"url": "nats://nats-us:4222",
"subject_template": "orders.{op}.us-east",
"stream": "ORDERS"
}'::jsonb
);
SELECT tide.relay_set_inbox(
'eu-orders-subscribe',
'replicated_orders',
'{
"source_type": "nats",
"url": "nats://nats-us:4222",
"subject": "orders.*.eu-west",
"stream": "ORDERS",
"consumer_group": "us-east-replica",
"durable_name": "us-east-replica"
}'::jsonb
);
