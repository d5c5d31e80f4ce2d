# What the doctor finds against residency, here and in other regions: rows that may not be here, rows that a region wrote
# itself and that don't go, classes that differ, publications that somebody changed.

use strict;
use warnings;

use JSON::PP qw(decode_json);
use Test::More;

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new;
my ($US, $EU) = @PgTide::Mesh::REGION{qw(us eu)};

sub doctor
{
	my ($side) = @_;
	my $out = `$ENV{TIDE_TOP}/build/pg_tide doctor -d "${\$mesh->node($side)->relay_conninfo}" --json 2>&1`;
	my $document = eval { decode_json($out) } // do { diag($out); {} };
	return [ sort map { join ' ', $_->{level}, $_->{check}, $_->{subject} // '-', $_->{message} }
		  grep { $_->{level} =~ /warn|error|skip/ } @{ $document->{findings} } ];
}

$mesh->sql_all('CREATE TABLE goods (id int PRIMARY KEY, body text); CREATE TABLE customer (id int PRIMARY KEY, region text NOT NULL, name text)');
$mesh->class('shop');
$mesh->class('by_region', residency => { column => 'region' });
$mesh->add_table('goods', 'shop');
$mesh->add_table('customer', 'by_region');
$mesh->sql('us', "INSERT INTO customer VALUES (1, '$EU', 'here before'), (2, '$EU', 'too')");
$mesh->start_relays;
$mesh->sql('eu', "SELECT tide.link_add('$US')");
ok(defined $mesh->wait_copied('eu', 'us'), 'a direct link');
is($mesh->sql('eu', 'SELECT count(*) FROM customer'), 2, '... brings the rows');
ok(defined $mesh->wait_value('us', 'SELECT count(*) FROM customer', 0), '... and they go where they were written');
my $found;
wait_until(sub { $found = doctor('eu'); !@$found }, 30, 'a healthy eu');
is_deeply($found, [], 'the doctor is content');

# Against policy: seen here, and from elsewhere; classes that differ; a publication that was changed.
$mesh->sql('eu', qq{BEGIN; SET LOCAL session_replication_role = replica; UPDATE customer SET region = 'elsewhere', tide_stamp = ('9\@' || lpad(to_hex(tide.region_id('$US')), 8, '0'))::tide.stamp WHERE id = 1; COMMIT});
is_deeply([ grep { /residency/ } @{ doctor('eu') } ], ['error rows.residency public.customer this region holds 1 rows and 0 values of other regions against policy'], 'found here');
is_deeply([ grep { /residency/ } @{ doctor('us') } ], [qq{error link.residency public.customer region "$EU" holds 1 rows and 0 values of other regions against policy}], '... and from the other region');
is($mesh->sql('eu', 'SELECT * FROM tide.residency_purge()'), 'public.customer|1|0', 'removed by hand');
is_deeply([ grep { /residency/ } @{ doctor('us') } ], [], '... gone');
is($mesh->sql('eu', 'SELECT count(*) FROM customer'), 1, '... and nothing else');
# What a region wrote itself is told of when it does not go.
$mesh->sql('us', "INSERT INTO customer VALUES (3, 'nowhere', '')");
is_deeply([ grep { /wrote itself/ } @{ doctor('us') } ], [], 'a row that nobody may have: a moment is given');
$mesh->sql('us', q{UPDATE tide.residency_leaving SET noted_at = noted_at - interval '2 minutes'});
is_deeply([ grep { /wrote itself/ } @{ doctor('us') } ], ['warn rows.residency public.customer this region holds 1 rows that it wrote itself against policy'], '... then the doctor says it');
ok(defined wait_until(sub { ($mesh->relay('us')->metric('pg_tide_class_residency_overdue_seconds', qr/by_region/) // 0) >= 120 }, 30, 'the metric'), '... and a metric');
$mesh->sql('us', q{SELECT tide.class_alter('by_region', '{"residency": {"column": "region", "regions": {"mars": true}}}')});
like(join("\n", @{ doctor('eu') }), qr/warn link.classes by_region residency is /, 'classes that differ');
$mesh->sql('us', sprintf 'SET session_replication_role = replica; ALTER PUBLICATION %s SET TABLE customer (id, region, tide_stamp)', $mesh->sql('us', "SELECT tide._residency_publication('$EU', false)"));
like(join("\n", @{ doctor('us') }), qr/error rows.residency public.customer this region: what region "$EU" may have is not as it should be/, 'a publication that somebody changed');
$mesh->sql('us', q{SELECT tide.table_add('customer', 'by_region')});
is_deeply([ grep { /not as it should/ } @{ doctor('us') } ], [], '... put right by table_add');
$mesh->stop;
done_testing();
