CREATE EXTENSION pg_tide;
SELECT tide.region_init('us-east');
CREATE ROLE replicator LOGIN REPLICATION PASSWORD 'replpass' IN ROLE tide_relay;

CREATE TABLE users (
id SERIAL PRIMARY KEY,
email VARCHAR(100) UNIQUE NOT NULL,
name VARCHAR(100),
region VARCHAR(20) DEFAULT 'us-east',
created_at TIMESTAMPTZ DEFAULT NOW(),
updated_at TIMESTAMPTZ DEFAULT NOW()
);
CREATE TABLE orders (
id SERIAL PRIMARY KEY,
user_id INT NOT NULL REFERENCES users(id),
total DECIMAL(10,2),
status VARCHAR(20) DEFAULT 'pending',
region VARCHAR(20) DEFAULT 'us-east',
created_at TIMESTAMPTZ DEFAULT NOW()
);
CREATE INDEX idx_orders_user ON orders(user_id);
CREATE INDEX idx_orders_region ON orders(region, created_at);
INSERT INTO users (email, name, region) VALUES
('alice@example.com', 'Alice Chen', 'us-east'),
('bob@example.com', 'Bob Smith', 'eu-west'),
('carol@example.com', 'Carol Wu', 'ap-east');
INSERT INTO orders (user_id, total, region)
SELECT id, (random()*1000)::DECIMAL(10,2), region FROM users;

SELECT tide.class_create('shop', '{"scope": "global"}');
SELECT tide.table_add('users', 'shop');
SELECT tide.table_add('orders', 'shop');
