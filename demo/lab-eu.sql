CREATE EXTENSION pg_tide;
SELECT tide.region_init('eu-west');
CREATE ROLE replicator LOGIN PASSWORD 'replpass' IN ROLE tide_relay;

CREATE TABLE users (
id SERIAL PRIMARY KEY,
email VARCHAR(100) UNIQUE NOT NULL,
name VARCHAR(100),
region VARCHAR(20),
created_at TIMESTAMPTZ DEFAULT NOW(),
updated_at TIMESTAMPTZ DEFAULT NOW()
);
CREATE TABLE orders (
id SERIAL PRIMARY KEY,
user_id INT NOT NULL,
total DECIMAL(10,2),
status VARCHAR(20),
region VARCHAR(20),
created_at TIMESTAMPTZ DEFAULT NOW()
);

SELECT tide.class_create('shop', '{"scope": "global"}');
SELECT tide.table_add('users', 'shop');
SELECT tide.table_add('orders', 'shop');
SELECT tide.region_add('us-east', 'env:US_EAST');
SELECT tide.link_add('us-east', '{"transport": "direct", "copy": true}');
