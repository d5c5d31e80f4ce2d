-- The application's own table, which the tutorial takes as given.
CREATE TABLE orders (
    id text PRIMARY KEY,
    region text NOT NULL,
    customer_id text NOT NULL,
    total numeric NOT NULL
);
