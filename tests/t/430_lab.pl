# The lab of the replication lesson: users and orders of us-east in eu-west, with its tables, its data and its checks.

use strict;
use warnings;

use Test::More;

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new(know => 0);

# us-east: as in the lab's first step, with pg_tide's set-up in place of CREATE PUBLICATION.
$mesh->sql('us', <<'END');
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
SELECT tide.table_add('users', 'shop'), tide.table_add('orders', 'shop');
END

# eu-west: the same tables with other defaults, and without the foreign key.
$mesh->sql('eu', <<'END');
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
SELECT tide.table_add('users', 'shop'), tide.table_add('orders', 'shop');
END
$mesh->know_each_other;
$mesh->link('eu', 'us', copy => JSON::PP::true());
$mesh->start_relays;

# "Copy existing data first."
ok(defined $mesh->wait_copied('eu', 'us'), 'the first copy is done');
is($mesh->sql('eu', q{SELECT count(*) FROM users}), 3, 'eu-west: 3 users');
$mesh->same_tables('users and orders are the same in both', [qw(users orders)]);

# "Write to primary (us-east)."
$mesh->sql('us', <<'END');
INSERT INTO users (email, name, region) VALUES ('dave@example.com', 'Dave Park', 'us-east');
UPDATE orders SET status = 'shipped' WHERE id = 1;
END
is($mesh->sql('us', q{SELECT 'us-east: ' || COUNT(*) || ' users' FROM users}), 'us-east: 4 users', 'us-east: 4 users');

# "Verify data propagated to replica (eu-west)."
$mesh->settle_one('us', 'eu');
is($mesh->sql('eu', q{SELECT 'eu-west: ' || COUNT(*) || ' users' FROM users}), 'eu-west: 4 users', 'eu-west: 4 users');
is($mesh->sql('eu', 'SELECT id, email, name FROM users ORDER BY id'), <<'END' =~ s/\n\z//r, 'the users, as the lab prints them');
1|alice@example.com|Alice Chen
2|bob@example.com|Bob Smith
3|carol@example.com|Carol Wu
4|dave@example.com|Dave Park
END
is($mesh->sql('eu', 'SELECT id, status FROM orders ORDER BY id'), "1|shipped\n2|pending\n3|pending",
	'the first order is shipped; the others have the origin\'s default');
is($mesh->sql('eu', q{SELECT region FROM users WHERE name = 'Dave Park'}), 'us-east', 'columns come, not their defaults');
$mesh->same_tables('users and orders are the same in both', [qw(users orders)]);

# "Check replication lag": the slot is in use and holds nothing back that eu-west has.
my $lsn = $mesh->sql('us', 'SELECT pg_current_wal_lsn()');
is($mesh->sql('us', 'SELECT count(*), bool_and(active) FROM pg_replication_slots'), '1|t', 'one slot, and it is active');
ok(defined $mesh->wait_value('us', "SELECT confirmed_flush_lsn >= '$lsn' FROM pg_replication_slots", 't'),
	'... and what was written has been confirmed');
ok(defined $mesh->wait_value('eu', q{SELECT seconds < 5 FROM tide.lag WHERE region = 'us-east' AND class = 'shop'}, 't'),
	'tide.lag says so, too');

# What the user never did.
is($mesh->sql('us', q{SELECT puballtables, pubinsert, pubupdate, pubdelete FROM pg_publication WHERE pubname = 'tide_global'}),
	'f|t|t|t', 'there is a publication');
is($mesh->sql('eu', 'SELECT count(*) FROM pg_subscription'), 0, 'and no subscription');
is($mesh->sql($_, q{SELECT rolsuper, rolbypassrls, rolreplication FROM pg_roles WHERE rolname = 'relay'}), 'f|f|t',
	"$_: the relay is no superuser")
  for $mesh->sides;

# The other way is a second link: eu-west's own rows, and none of us-east's once more.
$mesh->link('us', 'eu');
ok(defined $mesh->wait_copied('us', 'eu'), 'us-east takes rows from eu-west, too');
$mesh->sql('eu', q{INSERT INTO users (id, email, name, region) VALUES (1001, 'erika@example.com', 'Erika Mustermann', 'eu-west')});
$mesh->sql('eu', q{INSERT INTO orders (id, user_id, total, status) VALUES (1001, 1001, 12.50, 'new')});
$mesh->settle;
is($mesh->sql('us', q{SELECT u.name, o.total FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = 1001}),
	'Erika Mustermann|12.50', 'what eu-west wrote is in us-east');
$mesh->same_tables('users and orders are the same in both', [qw(users orders)]);
is($mesh->sql('us', q{SELECT count(DISTINCT tide.stamp_region(tide_stamp)) FROM users}), 2, 'stamps name both regions');
is($mesh->sql('eu', q{SELECT tide.stamp_region(tide_stamp) FROM users WHERE name = 'Dave Park'}), 'us-east',
	'... and who wrote which row');
$mesh->nothing_special('nothing was parked, nothing copied twice');

is_deeply($mesh->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
