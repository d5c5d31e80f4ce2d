# The lab of the replication lesson: users and orders of us-east in eu-west, with its tables, its data and its checks.

use strict;
use warnings;

use Test::More;

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

# The lab's SQL is demo/lab-*.sql, as docs/lab.md prints it: with pg_tide's set-up in place of CREATE PUBLICATION and
# CREATE SUBSCRIPTION; in eu-west the tables have other defaults and no foreign key.
my $mesh = PgTide::Mesh->new(bare => 1);

sub run_file
{
	my ($side, $name) = @_;
	return $mesh->node($side)->run_file("$ENV{TIDE_TOP}/demo/$name");
}

sub conninfo
{
	my ($side) = @_;
	return $mesh->conninfo($side) =~ s/user=relay/user=replicator/r;
}

run_file('us', 'lab-us.sql');
run_file('eu', 'lab-eu.sql');
$mesh->start_relay('eu', conninfo => conninfo('eu'), env => { US_EAST => conninfo('us') });

# "Copy existing data first."
ok(defined $mesh->wait_copied('eu', 'us'), 'the first copy is done');
is($mesh->sql('eu', q{SELECT count(*) FROM users}), 3, 'eu-west: 3 users');
$mesh->same_tables('users and orders are the same in both', [qw(users orders)]);

# "Write to primary (us-east)."
like(scalar run_file('us', 'lab-use.sql'), qr/\Aus-east: 4 users\n?\z/, 'us-east: 4 users');

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
is($mesh->sql($_, q{SELECT rolsuper, rolbypassrls, rolreplication FROM pg_roles WHERE rolname = 'replicator'}), $_ eq 'us' ? 'f|f|t' : 'f|f|f',
	"$_: the relay is no superuser")
  for $mesh->sides;

# The other way is a second link: eu-west's own rows, and none of us-east's once more.
$mesh->sql('eu', 'ALTER ROLE replicator REPLICATION');
$mesh->sql('us', q{SELECT tide.region_add('eu-west', 'env:EU_WEST')});
$mesh->link('us', 'eu');
$mesh->start_relay('us', conninfo => conninfo('us'), env => { EU_WEST => conninfo('eu') });
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
