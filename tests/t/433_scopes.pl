# Scopes: what is global goes everywhere, what is regional never leaves, whatever links and publications exist.

use strict;
use warnings;

use Test::More;

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new;
my $SECRET = 'stays-here-4711';

$mesh->sql_all(<<'END');
CREATE TABLE shared (id int PRIMARY KEY, v text);
CREATE TABLE private (id int PRIMARY KEY, v text);
CREATE TABLE private_parts (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE private_part PARTITION OF private_parts FOR VALUES FROM (0) TO (1000);
CREATE TABLE untouched (id int PRIMARY KEY, v text);
END
$mesh->sql('us', "INSERT INTO $_ VALUES (1, '$SECRET')") for qw(private private_parts untouched);
$mesh->class('everywhere', scope => 'global');
$mesh->class('here', scope => 'regional');
$mesh->add_table('shared', 'everywhere');
$mesh->add_table($_, 'here') for qw(private private_parts);
$mesh->link_all;
$mesh->start_relays;
ok(defined $mesh->wait_copied(@$_), "$_->[0] takes rows from $_->[1]") for $mesh->ways;

sub write_all
{
	my ($n) = @_;
	$mesh->sql('us', <<~"END");
		BEGIN;
		INSERT INTO shared VALUES ($n, 'goes');
		INSERT INTO private VALUES ($n, '$SECRET');
		INSERT INTO private_parts VALUES ($n, '$SECRET');
		INSERT INTO untouched VALUES ($n, '$SECRET');
		UPDATE private SET v = v || '!' WHERE id = $n;
		COMMIT;
		END
	return;
}

sub stays
{
	my ($when) = @_;
	$mesh->settle;
	$mesh->same_tables("$when: the global table is equal", ['shared']);
	is($mesh->sql('eu', "SELECT count(*) FROM $_"), 0, "$when: $_ has not left") for qw(private private_parts untouched);
	is($mesh->sql('us', q{SELECT count(*) FROM pg_publication_tables WHERE pubname LIKE 'tide%' AND tablename NOT IN ('shared', 'schema_log')}), 0,
		"$when: nothing else is published");
	return;
}

write_all(10);
stays('from the start');
is($mesh->sql('us', 'SELECT bool_and(tide.stamp_region(tide_stamp) = \'us-east\') FROM private'), 't', 'regional rows are stamped all the same');

# Removed and added again, in the same class; the link, too.
$mesh->sql('us', q{SELECT tide.table_remove('private')});
write_all(11);
$mesh->add_table_at('us', 'private', 'here');
write_all(12);
stays('after table_remove and table_add');
$mesh->unlink('eu', 'us');
ok(defined $mesh->wait_value('eu', 'SELECT count(*) FROM tide.link', 0), 'the link is removed');
write_all(13);
$mesh->link('eu', 'us');
ok(defined $mesh->wait_copied('eu', 'us'), '... and added again');
write_all(14);
stays('after link_remove and link_add');
$mesh->sql('us', 'CREATE TABLE private_part_2 PARTITION OF private_parts FOR VALUES FROM (1000) TO (2000)');
write_all(1500);
stays('a new partition');

# The destination would take it: but it is not sent.
$mesh->sql('eu', q{SELECT tide.table_remove('private')});
$mesh->add_table_at('eu', 'private', 'everywhere');
write_all(15);
$mesh->settle;
is($mesh->sql('eu', 'SELECT count(*) FROM private'), 0, 'global at the other side alone: still not sent');
# ... and then what eu writes there goes to us, for there it is said to be global, but is not taken: here it is regional.
$mesh->sql('eu', q{INSERT INTO private VALUES (900, 'from eu')});
$mesh->settle;
is($mesh->sql('us', 'SELECT count(*) FROM private WHERE id = 900'), 0, '... nor is anything taken for a table that is regional here');

# Refused with a hint: what comes with later versions, and what never existed.
for my $options ('{"scope": "home", "home": 1}', '{"scope": "primary"}', '{"scope": "primary", "primary": "atlantis"}', '{"scope": "galactic"}', '{"scop": "global"}',
	'{"scope": "global", "conflict": "first"}', '{"scope": "global", "durability": "sync"}', '{"scope": 5}', '{}', '[]')
{
	like($mesh->error_of('us', "SELECT tide.class_create('other', '$options')"),
		qr/ERROR:  (0A000|22023|22004|42704): .*\n(.*\n)*?HINT: /, "class_create $options: refused, with a hint");
}
for my $call (
	q{tide.table_add('shared', 'nowhere')}, q{tide.table_add('shared', 'here')}, q{tide.table_add('nothing', 'here')},
	q{tide.link_add('atlantis')}, q{tide.link_add('us-east')}, q{tide.link_add('eu-west', '{"transprt": "direct"}')},
	q{tide.link_add('eu-west', '{"transport": "pigeon"}')}, q{tide.link_remove('atlantis')}, q{tide.region_init('other')},
	q{tide.region_add('us-east', 'host=x')}, q{tide.region_add('new', 'host=x password=secret')})
{
	like($mesh->error_of('us', "SELECT $call"), qr/ERROR:  (?!XX)\w{5}: /, "$call: refused");
}
$mesh->sql('us', $_)
  for q{SELECT tide.region_init('us-east')}, q{SELECT tide.class_create('here', '{"scope": "regional"}')},
  q{SELECT tide.table_add('shared', 'everywhere')}, sprintf(q{SELECT tide.region_add('eu-west', %s)}, PgTide::Duo::literal($mesh->conninfo('eu')));
pass('saying the same once more is no error');
$mesh->nothing_special('nothing was parked');

# The whole WAL that left: not a byte of it.
my $log = join '', map { $mesh->relay($_)->log_text } $mesh->sides;
unlike($log, qr/\Q$SECRET\E/, 'no log has it');
is_deeply($mesh->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
