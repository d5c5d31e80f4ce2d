INSERT INTO users (email, name, region) VALUES ('dave@example.com', 'Dave Park', 'us-east');
UPDATE orders SET status = 'shipped' WHERE id = 1;
SELECT 'us-east: ' || COUNT(*) || ' users' FROM users;
